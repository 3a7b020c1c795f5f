"""What shows what happened: CloudTrail and CloudWatch."""
