# frozen_string_literal: true

module SidekiqBridge
  module Sidecar
    # An app may set a flag in `config.on(:quiet)` and let its jobs look at it. The flag is the process's, and one sidecar
    # serves many workers: the block runs when the sidecar drains, and not when one worker stops. The log says so.
    module QuietHooks
      module_function

      # `app` is the Rails directory or the Ruby file; blocks of gems are not the app's.
      def say(app, blocks, logger)
        root = File.directory?(app) ? File.expand_path(app) : File.dirname(File.expand_path(app))
        places(root, blocks).each do |file, line|
          logger.info("The on(:quiet) block in line #{line} of #{file} runs when the sidecar drains. A job that should stop with its " \
                      "worker asks Sidekiq::CLI.instance.launcher.stopping? (docs/gems.md)")
        end
      end

      def places(root, blocks)
        blocks.filter_map { |block| block.source_location if block.respond_to?(:source_location) }.uniq
          .select { |file, _| file.start_with?("#{root}/") && !file.include?("/vendor/") && !file.include?("/gems/") }
      end
    end
  end
end
