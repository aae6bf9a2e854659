"""Studies: measurements that train no network on a data set, each a function of its settings and a seed."""
