"""What the sandbox has besides AWS: clock, faults, visibility delays, recorded calls, repeatable ids, accounts."""
