"""What both training nodes share."""
