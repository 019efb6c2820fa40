"""What `import` does: copy, convert, prove, try, seal."""
