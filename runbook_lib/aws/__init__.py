"""Reading and waiting for AWS, one module per service; knows no step."""
