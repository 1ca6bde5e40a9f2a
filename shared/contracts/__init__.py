"""What crosses a process boundary: the run's specification, plans, work, records and REST bodies."""
