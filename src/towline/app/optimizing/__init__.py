"""What `optimize` does: plan, make, judge, keep, go on."""
