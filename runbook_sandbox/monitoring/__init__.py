"""What shows and tells what happened: CloudTrail, CloudWatch, EventBridge and SNS."""
