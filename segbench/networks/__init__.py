"""What a user names becomes a network and the input that it expects."""
