"""What the measurement of EMCAM compares, and that it runs; how fast anything is, no test asks."""

from tools.speed import exchange


def test_all_blocks_are_measured_on_the_same_maps():
    rows = exchange.measure(repeats=1, shape=(2, 16, 6, 8))
    assert [r['block'] for r in rows] == [name + layout for layout in exchange.LAYOUTS for name in exchange.ROUTES]
    assert [r['ratio'] for r in rows[::4]] == [1, 1]
    concat, emcam, *halves = rows[:4]
    one = 2 * 16 * 6 * 8
    assert concat['GMAC'] == 2 * 16 * one / 1e9
    assert emcam['GMAC'] > max(r['GMAC'] for r in halves)
    # what is concatenated is kept, and no input counts
    assert concat['saved for backward, MB'] == 2 * 4 * one / 1e6
    assert emcam['saved for backward, MB'] > max(r['saved for backward, MB'] for r in halves)
