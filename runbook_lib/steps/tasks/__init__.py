"""The tasks of the notebooks: done in the learner's practice account, and checked against that account."""
