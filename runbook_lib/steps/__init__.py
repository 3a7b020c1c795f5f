"""One module per notebook: plan, apply and verify."""
