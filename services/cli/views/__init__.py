"""What people see of runs and queues: tables, progress, samples. Nothing is asked or changed here."""
