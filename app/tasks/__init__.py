"""Tasks. Nothing is imported here: a re-export would hide the module `celery_app` behind its object."""
