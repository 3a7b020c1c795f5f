"""A room: one sandbox for a class, with a token for each seat, and a page for the trainer."""
