"""Experiments that train no network: functions of their settings and a seed, which give what a record holds."""
