# frozen_string_literal: true

class MoneySerializer < ActiveJob::Serializers::ObjectSerializer
  def serialize(money)
    super("cents" => money.cents, "currency" => money.currency)
  end

  def deserialize(hash)
    Money.new(hash["cents"], hash["currency"])
  end

  # Rails before 8.1 wants it private, later ones public; public serves both.
  def klass
    Money
  end
end
