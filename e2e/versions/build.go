package versions

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/cnitest/cnitest/e2e/conflist"
	"github.com/cnitest/cnitest/e2e/trackrecord"
)

// upstream is the project whose plugins are all in one module: what a version does not have, it cannot be asked.
const upstream = "plugins"

// beside are the programs of this repository that the target files of a project need.
func beside(project string) []string {
	switch project {
	case "amazon":
		return []string{"ipamd", "relay"}
	case "whereabouts":
		return []string{"etcd", "kube-apiserver"}
	}
	return nil
}

// build makes the programs of all versions that are asked for. Plugins of chains of other projects that are not theirs
// are this repository's.
func (r *Runner) build(ctx context.Context, jobs []*job) error {
	types := map[string][]string{}
	for _, j := range jobs {
		list, err := conflist.Load(j.chain)
		if err != nil {
			return err
		}
		types[j.module] = append(types[j.module], list.Types()...)
	}
	for _, j := range jobs {
		wanted := types[j.module]
		if wanted == nil {
			continue
		}
		types[j.module] = nil
		begin := time.Now()
		missing, err := trackrecord.Build(ctx, j.module, j.programs, wanted)
		if err != nil {
			return err
		}
		missing = slices.Compact(slices.Sorted(slices.Values(missing)))
		more := ""
		if j.project != upstream {
			if err := trackrecord.BuildOwn(ctx, filepath.Dir(r.Modules), filepath.Dir(r.Cnitest), j.programs,
				append(missing, beside(j.project)...)); err != nil {
				return err
			}
		} else if len(missing) > 0 {
			more = "; it has no " + strings.Join(missing, ", ")
		}
		fmt.Fprintf(r.Log, "built   %s in %.1f s%s\n", filepath.Base(j.module), time.Since(begin).Seconds(), more)
	}
	return nil
}
