"""Lines in panels."""

from zoo.visual import Line, draw_lines


def test_every_panel_has_its_lines_and_one_legend_names_them_all():
    rise, fall = Line([0, 1], [10, 20], [0, 1]), Line([0, 1, 2], [30, 20, 5], [0, 0, 0])
    figure = draw_lines({('pgd', 'eps'): {'rgb': rise, 'depth': fall}, ('pgd', 'steps'): {'ir': fall}}, 'accuracy %')
    first, second = figure.axes
    assert [len(axes.containers) for axes in figure.axes] == [2, 1]
    assert (first.get_title(), first.get_xlabel(), second.get_xlabel()) == ('pgd', 'eps', 'steps')
    assert first.get_ylim()[0] == second.get_ylim()[0] == 0
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ['rgb', 'depth', 'ir']
    colours = [c[0].get_color() for axes in figure.axes for c in axes.containers]
    assert len(set(colours)) == 3
