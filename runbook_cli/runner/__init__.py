"""Headless runs: one chain of notebooks, or several side by side."""
