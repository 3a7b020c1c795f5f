"""What a notebook shows: forms, pictures, progress, reports and costs."""
