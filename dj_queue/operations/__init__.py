"""What happens to jobs: plain functions whose first argument is a QueueDatabase."""
