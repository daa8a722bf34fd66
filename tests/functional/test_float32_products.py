"""One switch of the process, taken in turns by two threads."""

import threading

import torch

from sae.functional.float32_products import products_as_they_are, rounded_products


def test_the_switch_is_put_back():
    before = torch.get_float32_matmul_precision()
    try:
        with rounded_products():
            assert torch.get_float32_matmul_precision() == "high"
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert torch.get_float32_matmul_precision() == before != "high"


def test_who_wants_full_products_waits_for_who_rounds():
    found = []

    def multiply():
        with products_as_they_are():
            found.append(torch.get_float32_matmul_precision())

    thread = threading.Thread(target=multiply)
    with rounded_products():
        thread.start()
        thread.join(0.05)
        assert found == []
    thread.join(10)
    assert found == [torch.get_float32_matmul_precision()]
