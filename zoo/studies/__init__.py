"""Studies: a module each, with the interface of `zoo.studies.study.Study`."""
