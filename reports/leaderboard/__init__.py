"""A public leaderboard: entries as data, and a static site made from them."""
