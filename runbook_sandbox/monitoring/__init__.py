"""What records of what happened: CloudTrail and CloudWatch."""
