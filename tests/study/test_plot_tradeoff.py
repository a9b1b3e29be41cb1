import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from pyro_reparam_ext.study.plot_tradeoff import plot_tradeoff

SUMMARY = pd.DataFrame(
    {
        "unbiased": [True, True, False, True],
        "relative_variance": [0.0, 2.0, 0.5, 4.0],
        "relative_bias": [0.0, 0.1, 0.4, np.nan],
        "bias_z": [0.0, 1.0, 9.0, np.nan],
        "seconds_per_gradient": [4e-3, 1e-3, 2e-3, 1e-6],
    },
    index=["exact", "DisARM", "relaxed", "alone"],
)


def test_each_label_has_a_dot_at_its_variance_and_squared_bias():
    axes = plot_tradeoff(SUMMARY)
    places = np.array([dot.get_offsets()[0] for dot in axes.collections[:4]])
    np.testing.assert_allclose(places[1:, 0], [2.0, 0.5, 4.0])
    np.testing.assert_allclose(places[1:3, 1], [0.01, 0.16])
    assert 0 < places[0, 0] < 0.5 and places[0, 1] == places[3, 1] < 0.01  # in the strips
    filled = [len(dot.get_facecolors()) > 0 for dot in axes.collections[:4]]
    assert filled == [False, False, True, False]
    areas = [dot.get_sizes()[0] for dot in axes.collections[:4]]
    assert areas[0] == 2 * areas[2] == 4 * areas[1] > areas[3]
    plt.close(axes.figure)


def test_labels_stand_in_the_legend_each_with_a_look_of_its_own():
    many = pd.concat([SUMMARY] * 6, ignore_index=True)  # all of them in four places
    axes = plot_tradeoff(many)
    assert not axes.texts
    *entries, strip = axes.get_legend().get_texts()
    assert strip.get_text() == "zero, or not known"
    assert [entry.get_text().split(",")[0] for entry in entries] == [str(i) for i in many.index]
    assert [", biased" in entry.get_text() for entry in entries] == [not x for x in many["unbiased"]]
    looks = {(line.get_marker(), line.get_color()) for line in axes.get_legend().get_lines()}
    assert len(looks) == len(many)
    plt.close(axes.figure)
