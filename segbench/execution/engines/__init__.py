"""Where jobs run: processes of this machine, Ray or SLURM, each behind the same `base.Engine`."""
