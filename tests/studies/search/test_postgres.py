"""Studies in a real PostgreSQL, and behind a gRPC proxy."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import optuna
import pytest
from fedhq.studies.search.errors import StorageError
from fedhq.studies.search.storage import address_of, close_storage, open_storage
from fedhq.studies.search.worker import TrialLoop
from search_accounts import check_accounts
