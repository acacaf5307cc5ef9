package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/cnitest/cnitest/e2e"
)

// jobIndex is the variable that Kubernetes sets in the pods of an indexed Job: a number from 0.
const jobIndex = "JOB_COMPLETION_INDEX"

// readShard reads the shard of --shard.
func (f *runFlags) readShard() (err error) {
	if f.shard == "" {
		return nil
	}
	if f.soak > 0 || f.replay != "" || f.keep {
		return errors.New("--shard with --soak, --replay or --keep-on-failure: these are not shared out")
	}
	text := f.shard
	if of, ok := strings.CutPrefix(text, "index/"); ok {
		index, err := strconv.Atoi(os.Getenv(jobIndex))
		if err != nil {
			return fmt.Errorf("--shard %s: want a number in %s, as in a pod of an indexed Job, got %q", text, jobIndex,
				os.Getenv(jobIndex))
		}
		text = fmt.Sprintf("%d/%s", index+1, of)
	}
	if f.part, err = e2e.ParseShard(text); err != nil {
		return fmt.Errorf("--shard: %w", err)
	}
	return nil
}
