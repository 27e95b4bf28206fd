"""What a study will take and can show, told before it runs."""
