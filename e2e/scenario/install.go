package scenario

import (
	"fmt"
	"strings"
)

// Install replaces the programs of the plugin under test, its IPAM plugin and its daemon by those of another version,
// while pods run, and the conflist if the target names an earlier one. A daemon that runs goes on as it is until it is
// restarted. At the start the nodes have the version under test.
type Install struct {
	// Node is the node's name.
	Node string `yaml:"node"`
	// Version is "old" (of Options.OldBinDir) or "new", the version under test.
	Version string `yaml:"version"`
	// How is "rename" (or empty), which replaces each program at once, or "copy", which writes over it; the conflist
	// follows. With "conflist-first" and "programs-first" the two are replaced one after the other, and the target must
	// name an earlier conflist.
	How string `yaml:"how"`
	// During is a pod that is attached when a half of each program has been copied, or only one of programs and
	// conflist has been replaced. Its ADD may fail then; DEL and a second ADD afterwards must succeed.
	During string `yaml:"during"`
}

// These are the values of Install.Version and Install.How.
const (
	OldVersion     = "old"
	NewVersion     = "new"
	InstallRenamed = "rename"
	InstallCopied  = "copy"

	InstallConflistFirst = "conflist-first"
	InstallProgramsFirst = "programs-first"
)

// String returns the step as a sentence.
func (i Install) String() string {
	text := fmt.Sprintf("install the %s version on node/%s", i.Version, i.Node)
	switch i.How {
	case InstallCopied:
		text += " by copying"
	case InstallConflistFirst, InstallProgramsFirst:
		text += ", " + strings.ReplaceAll(i.How, "-", " ")
	}
	if i.During != "" {
		text += ", and add " + i.During + " meanwhile"
	}
	return text
}

// twice reports whether programs and conflist are replaced one after the other.
func (i Install) twice() bool { return i.How == InstallConflistFirst || i.How == InstallProgramsFirst }

// install reports what is wrong with an install, and attaches the pod of During.
func (t *stepChecker) install(path string, i Install) {
	t.test(Upgrade, path)
	t.nodeNamed(path+".node", i.Node)
	t.oneOf(path+".version", "version", i.Version, OldVersion, NewVersion)
	if i.How != "" {
		t.oneOf(path+".how", "how", i.How, InstallRenamed, InstallCopied, InstallConflistFirst,
			InstallProgramsFirst)
	}
	if i.During == "" {
		return
	}
	if i.How != InstallCopied && !i.twice() {
		t.wrong(path+".during", "during belongs to how: copy, conflist-first or programs-first; a rename takes no time")
	}
	if pod, ok := t.place(path+".during", i.During, PodPlace); ok {
		if t.attached[attachment{pod.Name, DefaultInterface}] {
			t.wrong(path+".during", "%s is attached already; name another pod", pod)
		}
		t.attached[attachment{pod.Name, DefaultInterface}], t.netns[pod.Name] = true, true
	}
}
