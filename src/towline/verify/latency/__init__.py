"""What a load showed: levels, the knee, what it cost the server, and the report of it."""
