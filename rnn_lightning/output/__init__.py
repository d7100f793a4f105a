"""What comes out: forecast tables and pictures."""
