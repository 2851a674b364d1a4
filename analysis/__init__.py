"""What a trained network does: firing rates, pictures, plots."""
