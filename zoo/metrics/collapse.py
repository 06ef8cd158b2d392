def performance_collapse_rate(full, incomplete):
    return 100 * (full - incomplete) / full
