"""One network of benchmarks/network.py in a process of its own, also under an interpreter without ours.

Argument: a `Setting` as JSON. Prints its facts as a line of JSON, then for every line read the images/s.
"""

import json
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn


def build(setting: dict[str, Any]) -> nn.Module:
    """The network of the setting, ours or the authors'."""
    if setting["library"] == "wavemix":
        import wavemix

        return wavemix.create_model(
            setting["size"],
            task="classification",
            num_classes=setting["classes"],
            stem_stride=setting["stem_stride"],
            memory=setting["memory"],
        )
    import importlib

    authors: Any = importlib.import_module("wavemix.classification")
    words = setting["size"].split()
    dim, depth = (int(number) for number in words[0].split("/"))
    sizes = {"ff": dim, "mul": 2} | {
        word.rstrip("0123456789"): int(word.lstrip("fmul")) for word in words[1:]
    }
    model: nn.Module = authors.WaveMix(
        num_classes=setting["classes"],
        depth=depth,
        mult=sizes["mul"],
        ff_channel=sizes["ff"],
        final_dim=dim,
        level=1,
        initial_conv="strided",
        stride=setting["stem_stride"],
    )
    return model


def compiled(setting: dict[str, Any], model: Any) -> Any:
    """Compile the network with the options of the switches that are on, if the setting asks for it."""
    if not setting["compiled"]:
        return model
    if setting["library"] != "wavemix":
        return torch.compile(model)
    try:
        from wavemix import switches

        options: dict[str, Any] = dict(switches.compile_options(model.config, setting["device"]))
    except (ImportError, TypeError):  # an older checkout has no options that depend on the device
        options = {}
    return torch.compile(model, fullgraph=True, options=options)


def switched(setting: dict[str, Any]) -> AbstractContextManager[None]:
    """The setting's switch turned on; an older checkout has no switches."""
    if setting["switch"] is None:
        return nullcontext()
    from wavemix import switches

    return switches.switched(setting["switch"])


def make_step(setting: dict[str, Any], model: nn.Module, images: Tensor, target: Tensor) -> Callable[[], Any]:
    """One training step (AdamW under autocast) or one forward pass in the setting's dtype."""
    dtype = getattr(torch, setting["dtype"])
    amp = dtype != torch.float32
    autocast = torch.autocast(setting["device"], dtype=dtype, enabled=amp)
    ours = setting["library"] == "wavemix"
    if setting["mode"] == "infer":
        fused: Any = model.fuse() if ours else model.eval()  # type: ignore[operator]
        if ours:  # the authors' wavelet keeps its own fp32 filters: autocast is all it can
            fused, images = fused.to(dtype), images.to(dtype)
        forward = compiled(setting, fused)

        def infer() -> None:
            with (
                torch.inference_mode(),
                torch.autocast(setting["device"], dtype=dtype, enabled=amp and not ours),
            ):
                forward(images)

        return infer
    forward = compiled(setting, model)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    scaler = torch.amp.GradScaler(setting["device"], enabled=dtype == torch.float16)

    def train() -> None:
        with autocast:
            loss = nn.functional.cross_entropy(forward(images), target)
        gradient: Any = scaler.scale(loss)
        gradient.backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()

    return train


def facts_of(setting: dict[str, Any], model: nn.Module, images: Tensor) -> dict[str, Any]:
    """Parameters; of our networks MACs and, in training, the activations kept."""
    facts: dict[str, Any] = {"parameters": sum(parameter.numel() for parameter in model.parameters())}
    if setting["library"] == "wavemix":
        from wavemix.measure import count_macs, saved_bytes

        few, dtype = images[:4], getattr(torch, setting["dtype"])
        if setting["mode"] == "train":
            facts["saved_bytes"] = saved_bytes(model, few, None if dtype == torch.float32 else dtype)
        facts["macs"] = count_macs(model, few) / len(few)
    return facts


def time_steps(setting: dict[str, Any], step: Callable[[], Any]) -> float:
    """Images per second over at least the setting's seconds."""
    synchronize: Any = torch.cuda.synchronize if setting["device"] == "cuda" else lambda: None
    synchronize()
    clock = time.process_time if setting["cpu_time"] else time.perf_counter
    start, steps = clock(), 0
    while (elapsed := clock() - start) < setting["seconds"] or not steps:
        for _ in range(10 if setting["device"] == "cuda" else 1):
            step()
            steps += 1
        synchronize()
    return float(steps * setting["batch"] / elapsed)


def answer(setting: dict[str, Any]) -> None:
    """Print the setting's facts, then its rate for every line that comes in on stdin."""
    torch.set_num_threads(setting["threads"])
    torch.manual_seed(0)
    try:
        shape = (setting["batch"], 3, setting["image"], setting["image"])
        images = torch.randn(shape, device=setting["device"])
        if setting["layout"] == "channels last":
            images = images.contiguous(memory_format=torch.channels_last)
        target = torch.randint(setting["classes"], (setting["batch"],), device=setting["device"])
        model = build(setting).to(setting["device"]).train()
        facts = facts_of(setting, model, images)
        step = make_step(setting, model, images, target)
        for _ in range(1 if setting["device"] == "cpu" else 3):
            step()
    except Exception as error:  # a dtype that this network cannot train in, out of memory
        print(json.dumps({"error": str(error).splitlines()[0]}), flush=True)
        return
    print(json.dumps(facts), flush=True)
    for _ in sys.stdin:
        print(json.dumps({"rate": time_steps(setting, step)}), flush=True)


def main() -> None:
    """Measure the setting in the first argument."""
    setting = json.loads(sys.argv[1])
    if setting["library"] == "wavemix":
        sys.path.insert(0, setting["checkout"])
    with switched(setting):
        answer(setting)


if __name__ == "__main__":
    main()
