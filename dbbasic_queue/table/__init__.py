"""One TSV file that many processes change safely."""
