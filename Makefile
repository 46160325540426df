# The ways in. What they do stands in .ci/ and tox.ini.
.DEFAULT_GOAL := help
.PHONY: help demo test check bench dev clean

help: ## list these targets
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' Makefile | expand -t 14

demo: ## bring a VPC up on this machine, run pods through it, take it down (root)
	@.ci/setup demo
	@.venv/bin/python -m eniplug.lab.demo

test: ## what a change needs: types, lint, tests on one Python, one lab (root)
	@.ci/setup test
	@.ci/test quick

check: ## all that continuous integration runs: each Python, library, mode (root)
	@.ci/setup test
	@.ci/test quick rest

bench: ## measure everything, and write bench/results.md (root; ARGS=--quick, ARGS='--against CONFLIST')
	@.ci/setup dev
	@.venv/bin/python -m bench $(ARGS)

dev: ## make .venv with everything to work on eniplug
	@.ci/setup dev

clean: ## remove all that the others have made
	rm -rf .venv .tox build dist *.egg-info .coverage*
	rm -rf .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +
