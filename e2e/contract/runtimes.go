package contract

// duty is a requirement on runtimes.
type duty struct {
	id             string
	level          Level
	section        string
	text, why, how string
}

// runtimes returns what the specification demands of runtimes. It does not concern plugins: package duty has the
// checks, which cnitest runtime runs.
func runtimes() []Requirement {
	var list []Requirement
	for _, part := range [][]duty{readingDuties(), callingDuties(), orderDuties(), derivingDuties(), powerDuties()} {
		for _, d := range part {
			list = append(list, Requirement{
				ID: d.id, Level: d.level, Section: d.section, Roles: []Role{Runtime}, Text: d.text, Why: d.why,
				How:       d.how,
				Unchecked: "asked of a runtime, by cnitest runtime",
			})
		}
	}
	return list
}

// readingDuties are about the configuration of a network.
func readingDuties() []duty {
	const where = "1, Network configuration"
	return []duty{
		{
			"RUN-1", Must, where,
			"The name of a network begins with a letter or digit, and goes on with these, underscores, dots and " +
				"hyphens.",
			"It becomes part of paths, in caches and in plugins.",
			"ADD in networks with names that are not allowed, which must fail before a plugin is called, and in one " +
				"whose name has every kind of character that is allowed.",
		},
		{
			"RUN-2", MustNot, where + "; 2, CHECK", "CHECK is not called for a network with disableCheck.",
			"Administrators switch off what plugins do wrongly together.",
			"CHECK of a pod in such a network: it succeeds, and calls no plugin.",
		},
		{
			"RUN-3", MustNot, where, "GC is not called for a network with disableGC.",
			"Two runtimes that share a network would delete each other's pods.",
			"GC of such a network calls no GC of a plugin.",
		},
		{
			"RUN-4", Must, where, "Plugin objects of a network from other sources come after those of its file.",
			"Chained plugins work on what those before them made.",
			"ADD in a network with two plugins in its file and one in the folder of its name. A runtime may read no " +
				"folders.",
		},
		{
			"RUN-5", Must, where,
			"With loadOnlyInlinedPlugins a network has the plugins of its file alone; without plugins in it the key " +
				"cannot be true.",
			"The administrator says that nobody else adds plugins.",
			"ADD in the same network with the key, and in one with the key and no plugins, which must fail.",
		},
		{
			"RUN-6", Must, "1, Plugin configuration objects", "Each plugin object belongs to one network.",
			"A plugin that was meant for another network would change this one.",
			"ADD in a network beside which the folder of another network lies.",
		},
		{
			"RUN-7", Must, "1, Plugin configuration objects",
			"All plugin objects are validated, and each plugin is called.",
			"A network of which a part is missing looks like one that works.",
			"ADD in a network of three plugins, and in one whose second object has no type, which must fail before a " +
				"plugin is called.",
		},
		{
			"RUN-8", Must, "1, Plugin configuration objects; 3",
			"Keys of a plugin object that the runtime does not know are passed on unchanged.",
			"They are what the plugin is configured with.",
			"Every verb with keys of every type of JSON, nested, empty and null, and with the key ipam.",
		},
		{
			"RUN-9", Must, "1, Plugin configuration objects; 3",
			"Numbers keep their value, also those that are too large for a float.",
			"Identifiers of 64 bits arrive as others.",
			"ADD with the numbers 9007199254740993 and 18446744073709551615.",
		},
		{
			"RUN-10", Must, "1, Version considerations",
			"The highest version of cniVersion and cniVersions that the runtime knows is used.",
			"So one configuration serves old and new runtimes.",
			"ADD in networks of one version each shows what the runtime knows; then in one with all of them, and one " +
				"that nobody knows.",
		},
	}
}

// callingDuties are about the environment in which a plugin is called.
func callingDuties() []duty {
	return []duty{
		{
			"RUN-11", Must, "2, Overview", "A plugin runs in the runtime's own network namespace.",
			"It finds the node's interfaces there.",
			"Compares the namespace of the plugins with that of a plugin that the node's agent calls.",
		},
		{
			"RUN-12", Must, "2, Parameters; 3, Attachment parameters",
			"CNI_CONTAINERID begins with a letter or digit, goes on with these, underscores, dots and hyphens, and " +
				"is another one for each container.",
			"Plugins make file names of it.",
			"ADD and DEL of two pods; if the caller chooses the id, also ids that are not allowed, which must fail " +
				"before a plugin is called.",
		},
		{
			"RUN-13", Stated, "2, ADD, DEL, CHECK",
			"ADD, DEL and CHECK get CNI_COMMAND, CNI_CONTAINERID, CNI_NETNS and CNI_IFNAME.",
			"Most plugins refuse to work without them.",
			"ADD, CHECK and DEL of a pod; all verbs of a pod have the same values, and no call is without a " +
				"CNI_COMMAND.",
		},
		{
			"RUN-14", Stated, "2, GC, STATUS; 3, Garbage-collecting a network",
			"GC gets CNI_COMMAND and CNI_PATH, STATUS gets CNI_COMMAND, and neither gets parameters of an attachment.",
			"They concern a network, and a plugin that is told of a container may work on it alone.",
			"GC and STATUS of a network with a pod.",
		},
		{
			"RUN-15", Must, "3, Attachment parameters", "Plugins get the runtime's list of directories as CNI_PATH.",
			"A plugin finds its IPAM plugin there.",
			"Every verb; the list has the directory in which the runtime found the plugin.",
		},
		{
			"RUN-16", Stated, "3, Attachment parameters", "Generic arguments are CNI_ARGS of ADD, CHECK and DEL.",
			"Plugins that know pods by their names find none otherwise.",
			"ADD, CHECK and DEL with two arguments.",
		},
		{
			"RUN-17", Must, "2, Overview, GC", "Every call has its configuration on standard input.",
			"Without it a plugin does not know what to do.",
			"Every verb; the plugins, which fail without an input, are all called, and get an object with their type.",
		},
	}
}

// orderDuties are about what is called when.
func orderDuties() []duty {
	const lifecycle = "3, Lifecycle and ordering"
	return []duty{
		{
			"RUN-18", ShouldNot, "2, ADD", "ADD is not called twice for one container and interface without DEL " +
				"between.",
			"No plugin has to expect it.", "ADD of a pod that is attached.",
		},
		{
			"RUN-19", Must, "2, DEL; 3, Deleting an attachment", "DEL gets the final result of ADD as prevResult.",
			"Plugins find there what they have to remove.", "ADD and DEL of a pod.",
		},
		{
			"RUN-20", Stated, "3, Deleting an attachment", "DEL goes through the chain from last to first.",
			"A plugin undoes its part while what it changed is still there.", "ADD and DEL of a pod.",
		},
		{
			"RUN-21", MustNot, "2, GC", "GC is not called in place of DEL.",
			"GC cannot remove all that DEL can.", "DEL of a pod calls DEL of the plugins, and no GC.",
		},
		{
			"RUN-22", MustNot, "2, CHECK", "CHECK is called between ADD and DEL only.",
			"A plugin can only report an error.", "CHECK of a pod that was not attached, and of one that was deleted.",
		},
		{
			"RUN-23", Must, "2, CHECK; 3, Checking an attachment", "CHECK gets the final result of the last ADD as " +
				"prevResult.",
			"A plugin compares it with what is there.",
			"CHECK of a pod, and again after it was deleted and attached with another result.",
		},
		{
			"RUN-24", Must, "2, CHECK; 3, Checking an attachment", "CHECK gets the parameters and the configuration " +
				"of ADD.",
			"A plugin compares with what it was asked for.",
			"ADD and CHECK with arguments and capability arguments, as far as the runtime takes them: variables but " +
				"for CNI_COMMAND and CNI_PATH, and the input but for prevResult.",
		},
		{
			"RUN-25", Stated, "2, GC; 3, Deriving request configuration",
			"The configuration of GC has cni.dev/valid-attachments: the containers and interfaces that are attached.",
			"A plugin deletes everything else.",
			"GC while one pod is attached and another was deleted. Whoever deletes a pod before GC has to leave it " +
				"out.",
		},
		{
			"RUN-26", MustNot, lifecycle, "Operations for one container do not run at the same time.",
			"Plugins lock what containers share, not what is one container's.",
			"DEL of a pod, and ADD of a second interface of it, while a plugin is at work on ADD.",
		},
		{
			"RUN-27", Must, lifecycle, "GC excludes ADD and DEL: each waits for the other.",
			"An attachment that is being made is on no list yet.",
			"GC while a plugin is at work on ADD, and ADD while one is at work on GC.",
		},
		{
			"RUN-28", Must, lifecycle, "Every ADD, also one that fails, is followed by a DEL of the whole chain.",
			"It lets a plugin that failed half way remove what it made.",
			"ADD of which the second plugin fails, then DEL of the pod; and DEL of a pod when the file of another " +
				"network has come before that of its own, if the runtime reads files.",
		},
		{
			"RUN-29", Must, lifecycle, "The container's network namespace exists before the first plugin is called.",
			"There is nothing to put an interface into otherwise.",
			"ADD of two pods: CNI_NETNS leads to a namespace, another one for each pod, and not to the runtime's own.",
		},
		{
			"RUN-30", Stated, "3, Adding, Deleting, Checking an attachment; Garbage-collecting a network",
			"An operation on a network of which a plugin's program is missing fails.",
			"A pod without its firewall looks like one that works.",
			"Every operation after a program was removed.",
		},
		{
			"RUN-31", Must, "3, Adding an attachment", "The final result of ADD is kept persistently.",
			"CHECK and DEL need it, after a restart of the runtime too.", "DEL after the runtime was restarted.",
		},
	}
}

// derivingDuties are about what a plugin gets on standard input, and about errors and versions.
func derivingDuties() []duty {
	const where = "3, Deriving request configuration"
	return []duty{
		{
			"RUN-32", Must, where, "A plugin gets its own object with the network's name and the version that is used.",
			"A plugin keeps what belongs to a network under its name.",
			"Every verb, in a network whose first object has another name and version.",
		},
		{
			"RUN-33", Must, where + ", runtimeConfig",
			"A plugin gets as runtimeConfig the capability arguments that it declares: all of them, and no others.",
			"A plugin that is told of others may act on them.",
			"ADD, CHECK and DEL with arguments for three capabilities, of which one plugin declares one and says " +
				"false to one, another declares one, and the last declares none.",
		},
		{
			"RUN-34", Must, where, "ADD gets the result of the plugin before as prevResult; the first plugin gets " +
				"none.",
			"Chained plugins work with it.", "ADD of a pod.",
		},
		{
			"RUN-35", MustNot, where, "The input of ADD, CHECK and DEL has no key capabilities.",
			"A plugin cannot take what it declares for what it is told.", "ADD, CHECK and DEL with declared " +
				"capabilities.",
		},
		{
			"RUN-36", Stated, "3, Adding, Deleting, Checking an attachment",
			"ADD, CHECK and DEL halt at the first error, and report it.",
			"A chain that goes on after a failed ADD works on things that do not exist.",
			"Each with a second plugin that fails.",
		},
		{
			"RUN-37", Stated, "3, Garbage-collecting a network", "GC goes on after an error, and reports all.",
			"One plugin that cannot clean up would keep all others from it.",
			"GC with a first and a last plugin that fail.",
		},
		{
			"RUN-38", Stated, "2; Documentation/spec-upgrades.md",
			"A network of an older version gets no verb that the version does not have, and DEL gets prevResult from " +
				"0.4.0.",
			"A plugin of that version answers an unknown verb with an error.",
			"ADD, CHECK, GC, STATUS and DEL in networks of 0.3.1 and 1.0.0, where the runtime knows the version.",
		},
	}
}

// powerDuties are about what users met, and no sentence says.
func powerDuties() []duty {
	return []duty{{
		"RUN-39", Should, "failure mode",
		"DEL succeeds, and calls all plugins, although the power failed and what is kept of the pod is empty or torn.",
		"After a power cut a result in the cache may be an empty file. A runtime whose DEL fails for that keeps " +
			"the pod for ever, with its addresses (containernetworking/cni#1055, containerd#8197).",
		"Records what the runtime writes on the disk during ADD of a pod, and calls DEL with each disk that ext4 " +
			"or XFS may leave of it (go doc ./e2e/disk): it succeeds, and if the disk has a damaged file of the " +
			"pod, it " +
			"calls DEL of all plugins. Only of runtimes that are a program with an end.",
	}}
}
