"""Experiments on the gate and on the loop; nothing imports them."""
