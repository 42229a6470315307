"""What attacks share: losses, projections, starts, budgets and the count of passes."""
