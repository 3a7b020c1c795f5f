"""AWS sessions, readers and waits, one module per service; knows no step."""
