package main

import "github.com/spf13/cobra"

// commands lists the subcommands, one file each.
func (a *app) commands() []*cobra.Command {
	return []*cobra.Command{
		a.nodeCommand(), a.replayCommand(), a.askCommand(), a.bagCommand(), a.modelCommand(), a.kitchenCommand(), a.doctorCommand(),
		a.setupCommand(), a.demoCommand(), a.evalCommand(), a.reaCommand(), a.trainCommand(), a.chatCommand(), a.benchCommand(),
	}
}
