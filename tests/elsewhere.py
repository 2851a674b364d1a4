"""Helper: the commands of pages that no test of commands runs, why, and the test that covers what they do."""

import re

ENGINE, TOOLS = "tests/engine", "tests/tools"
# A pattern of commands: (why they are not run here, the file, or file::test, that covers what they do)
ELSEWHERE = {
    r"^(python -m )?pip |^python -m venv ": ("needs the internet", "tests/test_documentation.py::test_make_has"),
    r"^source ": ("changes the shell alone", "tests/test_documentation.py::test_make_has"),
    r"^make (demo|zoo|test|lint)": ("installs from the internet first", "tests/test_documentation.py::test_make_has"),
    r"^make docs|^python -m mkdocs serve": ("a site", f"{TOOLS}/test_docs_site.py::test_the_site_builds"),
    r"tensorboard --logdir": ("serves for ever", f"{ENGINE}/test_tensorboard.py"),
    r"^sbatch ": ("needs SLURM", f"{ENGINE}/test_launchers.py::test_the_file_for_slurm"),
    r"^python \S+\.py$|^python -m \S+$": ("the name of a program, without arguments", f"{ENGINE}/runs/test_resume.py"),
    # GPUs
    r"--device cuda": ("needs a GPU", f"{TOOLS}/test_benchmark.py::test_training_beside_its_rivals"),
    r"tests/neurons/test_cuda\.py": ("needs a GPU", "tests/neurons/test_cuda.py"),
    r"train\.batch_size=auto": ("needs a GPU", f"{ENGINE}/test_batch_size.py::test_the_number_is_the_run_s"),
    r"--joules": ("needs a GPU", "tests/analysis/test_joules.py::test_joules_are_those"),
    r"infer NAME --rival graph": ("needs a GPU", f"{TOOLS}/test_benchmark.py::test_inference_with_fused_weights"),
    r"train\.compile=true": ("compiles for minutes", f"{ENGINE}/test_wrap.py"),
    # Published weights
    r"tools\.import_weights": ("needs published files", f"{TOOLS}/test_import_weights.py::test_arguments_of"),
    r"checkpoint_imported\.pt": ("is run there", f"{TOOLS}/test_import_weights.py::test_evaluate_takes"),
    # Run there at small size
    r"train\.py configs/gen1/\w+\.yaml data\.root=\S+$": (
        "each is run there",
        "tests/test_gen1_recipes.py::test_from_raw",
    ),
    r"tools\.benchmark (train|infer) ": ("times for minutes", f"{TOOLS}/test_benchmark.py::test_training_beside"),
    r"tools\.benchmark neurons": ("times for minutes", f"{TOOLS}/test_benchmark.py::test_neurons_against"),
    r"tools\.benchmark events": ("times for minutes", f"{TOOLS}/test_benchmark.py::test_events_beside"),
    r"tools\.benchmark simulation": ("times for minutes", f"{TOOLS}/test_benchmark.py::test_simulation_beside"),
    r"tools\.benchmark tensorboard": ("times for minutes", f"{TOOLS}/test_benchmark_tensorboard.py::test_steps_and"),
    r"tools\.zoo": ("trains for half an hour", f"{TOOLS}/test_zoo.py::test_its_config_builds"),
    r"tools\.growth": ("watches a long training", f"{TOOLS}/test_growth.py::test_epochs_leave_nothing_open"),
    r"tools\.survival": ("kills and resumes for hours", f"{TOOLS}/test_survival.py::test_a_signal_at"),
    r"tools\.replay": ("needs a step that diverged", f"{ENGINE}/test_nonfinite.py::test_a_step_is_run_again"),
    r"tools\.gap": ("is run there", f"{TOOLS}/test_gap.py::test_the_gap_of_a_network"),
    r"tools\.spikeyolo_energy": ("is run there", f"{TOOLS}/test_spikeyolo_energy.py::test_the_published_table"),
    r"tools\.draw_representations": ("is run there", f"{TOOLS}/test_draw_representations.py::test_every_form"),
    r"export\.py \S+ --format onnx --int8": ("is run there", f"{ENGINE}/export/test_onnx_file.py::test_int8"),
    r"export\.py \S+ --format torch": ("is run there", f"{ENGINE}/export/test_program.py::test_a_loaded_program"),
    r"export\.py \S+ --format safetensors": ("is run there", f"{ENGINE}/export/test_weights.py::test_weights_come"),
    r"export\.py \S+ --format nir": ("is run there", f"{ENGINE}/export/test_nir_file.py::test_the_layers_up_to_one"),
    r"train\.py .*--resume( runs/\S+)?$": ("needs a run that was interrupted", f"{ENGINE}/runs/test_resume.py"),
    r"model\.name=my_|model\.neuron=alif": ("needs the files of docs/extend.md", "tests/test_extend.py"),
}


def elsewhere(words: list[str]) -> str | None:
    """The pattern of ELSEWHERE that a command has."""
    return next((pattern for pattern in ELSEWHERE if re.search(pattern, " ".join(words))), None)
