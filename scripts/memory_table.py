"""Prints the table of scripts/memory_table.sh from the memory.json of its runs, FOLDER/RANKS-STAGE/."""

import json
import pathlib
import sys

CATEGORIES = ["parameters", "gradients", "optimizer"]


def paper(ranks, stage):
    """Rajbhandari et al. 2020, section 5: bf16 parameters and gradients, f32 master weights and two moments."""
    return [2 if stage < 3 else 2 / ranks, 2 if stage < 2 else 2 / ranks, 12 if stage < 1 else 12 / ranks]


def cell(values):
    return " + ".join(f"{value:.2f}" for value in values) + f" = {sum(values):.2f}"


def main(folder):
    print("| ranks | stage | measured, largest rank | formula | of it ideal | of it padding | of it staging | ZeRO paper |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    differences = []
    for ranks in (1, 2, 4, 8):
        for stage in range(4):
            record = json.loads((folder / f"{ranks}-{stage}" / "memory.json").read_text())
            count = record["model_parameters"]
            measured = [record["peak_bytes"][category] for category in CATEGORIES]
            formulas = [category["formula"] for category in measured]
            for name, category in zip(CATEGORIES, measured):
                for bound in ("min", "max"):
                    if category[bound] != category["formula"][bound]:
                        differences.append(f"{ranks} ranks, stage {stage}: {name}: the {bound} of the ranks is "
                                           f"{category[bound]} bytes, by formula {category['formula'][bound]}")
            staging = sum(sum(formula["staging"].values()) for formula in formulas)
            print(f"| {ranks} | {stage} | {cell([category['max'] / count for category in measured])} "
                  f"| {sum(formula['max'] for formula in formulas) / count:.2f} "
                  f"| {cell([formula['ideal'] / count for formula in formulas])} "
                  f"| {sum(formula['padding'] for formula in formulas) / count:.2f} | {staging / count:.2f} "
                  f"| {cell(paper(ranks, stage))} |")
    print(f"\nBytes for each of {count} parameters: parameters + gradients + optimizer state.")
    for difference in differences:
        print(f"memory_table: {difference}", file=sys.stderr)
    return 1 if differences else 0


sys.exit(main(pathlib.Path(sys.argv[1])))
