"""What is told, to whom, signed and delivered."""
