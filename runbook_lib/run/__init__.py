"""The run folder and the table of steps."""
