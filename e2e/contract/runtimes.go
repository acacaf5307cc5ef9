package contract

// runtimes returns what the specification demands of runtimes. It does not concern plugins. TestRuntime in package cni
// checks this project's driver, including libcni, with recording plugins at the first, middle and last place of a
// chain.
func runtimes() []Requirement {
	const how = "TestRuntime of package cni: plugins that record what they get, at the first, middle and last place " +
		"of a chain."
	var list []Requirement
	for _, r := range []struct {
		id      string
		level   Level
		section string
		text    string
		why     string
	}{
		{
			"CFG-1", Must, "1, Network configuration", "The name of a network begins with a letter or digit and goes " +
				"on with these, underscores, dots and hyphens.",
			"It becomes part of paths.",
		},
		{
			"CFG-3", Must, "1, Plugin configuration objects; 3",
			"Keys of a plugin that the runtime does not know are passed on as they are.",
			"They are what the plugin is configured with.",
		},
		{
			"CFG-4", MustNot, "1, Network configuration",
			"CHECK is not called with disableCheck, GC not with disableGC.",
			"Administrators switch off what a plugin does wrongly.",
		},
		{"VER-1", Must, "1, Version considerations", "The highest version of cniVersion and cniVersions that the " +
			"runtime knows is used.", "So one configuration serves old and new runtimes."},
		{"ENV-1", Must, "2, Parameters", "CNI_CONTAINERID is not empty, and holds letters, digits, underscores, dots " +
			"and hyphens only.", "Plugins make file names of it."},
		{"EXE-4", Must, "2, Overview", "A plugin runs in the runtime's own network namespace.", "It finds the node's interfaces there."},
		{"ADD-6", Stated, "2, ADD", "ADD is not called twice for one container and interface without DEL between.", "No plugin has to expect it."},
		{
			"DEL-6", Must, "2, DEL; 3, Deleting a network", "DEL goes through the chain from last to first, gets the " +
				"final result of ADD as prevResult, and is called although ADD failed.",
			"It lets a plugin that failed half way remove what it made.",
		},
		{"CHK-8", Must, "2, CHECK", "CHECK gets the parameters of ADD; CNI_PATH may differ.", "A plugin compares with what it was asked for."},
		{
			"GC-5", MustNot, "2, GC; 3", "GC is not called in place of DEL, nor while ADD or DEL of the network run.",
			"An attachment that is being made is on no list yet.",
		},
		{
			"LIF-2", MustNot, "3, Lifecycle and ordering", "Operations for one container do not run at the same time.",
			"Plugins lock what containers share, not what is one container's.",
		},
		{"LIF-3", Must, "3, Adding an attachment", "The final result of ADD is kept.", "CHECK and DEL need it, after a restart of the runtime too."},
		{
			"RQ-1", Must, "3, Deriving execution configuration", "The configuration of an execution has cniVersion, " +
				"name, the runtimeConfig of declared capabilities only, and prevResult but for the first ADD; " +
				"capabilities is dropped.",
			"It is all that a plugin sees.",
		},
		{"RQ-2", Should, "3, Deriving execution configuration", "All other keys but cni.dev/ are passed on unaltered.", "As CFG-3."},
		{
			"RQ-3", Stated, "3", "GC goes on after an error and returns all; ADD, CHECK and DEL halt at the first.",
			"A chain that goes on after a failed ADD works on things that do not exist.",
		},
	} {
		list = append(list, Requirement{
			ID: r.id, Level: r.level, Section: r.section, Roles: []Role{Runtime}, Text: r.text, Why: r.why, How: how,
			Unchecked: "a runtime's; the suite's own driver is tested",
		})
	}
	return list
}
