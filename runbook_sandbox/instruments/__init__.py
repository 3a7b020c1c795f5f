"""What the sandbox has beside AWS: clock, faults, recorded calls, repeatable ids, accounts."""
