// Command cnitest-chained is a plugin for the end of a chain. It records each call that it gets, in the directory that
// its object in the conflist names, and returns the result that it was given. kind/verbs.sh counts the records.
package main

import (
	"os"

	"github.com/cnitest/cnitest/e2e/fault/stub"
)

func main() { os.Exit(stub.Main(os.Args[0])) }
