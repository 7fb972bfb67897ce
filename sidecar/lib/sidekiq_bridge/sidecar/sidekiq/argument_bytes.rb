# frozen_string_literal: true

module SidekiqBridge
  module Sidecar
    # The bytes of a large payload's arguments. To hash many objects takes nearly as long as to parse them; to hash their
    # bytes takes a tenth.
    module ArgumentBytes
      LARGE_BYTES = 4096
      # With fewer objects at their beginning the arguments are texts, which Ruby hashes as quickly as bytes.
      FEWEST_OBJECTS = 4
      TEXT = /"(?:[^"\\]|\\.)*"/mn
      # No slash: it begins a comment, which may hold a quote.
      SCALARS = /\A[^\[\]{}\/]*\}\s*\z/n

      # Returns the bytes from the first bracket of `args` to the top-level jid, if clients write both as Sidekiq does.
      # They are the same for each attempt: attempts change fields before or behind. So only the arguments and the names
      # decide, and neither the size of the payload nor the texts of other fields. Nil for any other payload.
      def self.of(payload, jid)
        return if payload.bytesize < LARGE_BYTES || !jid.is_a?(String)
        bytes = payload.b
        opens = bytes.index("[")
        return unless opens && opens > 7 && bytes.byteslice(opens - 7, 7) == '"args":' && !bytes.byteslice(1, opens).include?("{")
        return if bytes.byteslice(opens, 2000).count("{") < FEWEST_OBJECTS
        name = bytes.rindex("],\"jid\":#{JSON.generate(jid)}".b)
        return unless name && name - opens >= LARGE_BYTES
        return if comments?(bytes.byteslice(0...name)) || !top_level?(bytes, name + 2)
        bytes.byteslice(opens...name)
      end

      # A quote in a comment would count as that of a text.
      def self.comments?(bytes) = bytes.include?("\n") || (bytes.include?("*") && bytes.include?("/*"))
      private_class_method :comments?

      # True if only texts, numbers and the closing brace follow.
      def self.top_level?(bytes, from) = SCALARS.match?(bytes.byteslice(from..).gsub(TEXT, ""))
      private_class_method :top_level?
    end
  end
end
