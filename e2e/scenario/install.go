package scenario

import "fmt"

// Install replaces the programs of the plugin under test, its IPAM plugin and its daemon by those of another version,
// while pods run. A daemon that runs goes on as it is until it is restarted. At the start the nodes have the version
// under test.
type Install struct {
	// Node is the node's name.
	Node string `yaml:"node"`
	// Version is "old" (of Options.OldBinDir) or "new", the version under test.
	Version string `yaml:"version"`
	// How is "rename" (or empty), which replaces each program at once, or "copy", which writes over it.
	How string `yaml:"how"`
	// During is a pod that is attached when a half of each program has been copied. Its ADD may fail then; DEL and a
	// second ADD after the copy must succeed.
	During string `yaml:"during"`
}

// These are the values of Install.Version and Install.How.
const (
	OldVersion     = "old"
	NewVersion     = "new"
	InstallRenamed = "rename"
	InstallCopied  = "copy"
)

// String returns the step as a sentence.
func (i Install) String() string {
	text := fmt.Sprintf("install the %s version on node/%s", i.Version, i.Node)
	if i.How == InstallCopied {
		text += " by copying"
	}
	if i.During != "" {
		text += ", and add " + i.During + " meanwhile"
	}
	return text
}

// install reports what is wrong with an install, and attaches the pod of During.
func (t *stepChecker) install(path string, i Install) {
	t.test(Upgrade, path)
	t.nodeNamed(path+".node", i.Node)
	t.oneOf(path+".version", "version", i.Version, OldVersion, NewVersion)
	if i.How != "" {
		t.oneOf(path+".how", "how", i.How, InstallRenamed, InstallCopied)
	}
	if i.During == "" {
		return
	}
	if i.How != InstallCopied {
		t.wrong(path+".during", "during belongs to how: copy; a rename takes no time")
	}
	if pod, ok := t.place(path+".during", i.During, PodPlace); ok {
		if t.attached[attachment{pod.Name, DefaultInterface}] {
			t.wrong(path+".during", "%s is attached already; name another pod", pod)
		}
		t.attached[attachment{pod.Name, DefaultInterface}], t.netns[pod.Name] = true, true
	}
}
