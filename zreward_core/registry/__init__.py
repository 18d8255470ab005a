"""MLflow runs, registered versions, lineage, and the file that names the champion."""
